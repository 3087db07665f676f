"""The words and the face of trimtab: the contract, the client and the command line."""
