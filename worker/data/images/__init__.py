"""Pictures: files, folders, torchvision's sets, scikit-learn's digits, rendered glyphs."""
