"""Texts: tokenizers of published folders, tables of texts, and how tokens are stored."""
