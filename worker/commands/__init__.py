"""What a person runs by hand: predict with an exported model, pretrain our own backbone."""
