"""The commands that a person runs by hand: predict with an exported model, pretrain the backbone glyphnet."""
