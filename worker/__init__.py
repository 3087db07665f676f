"""The hands: lease trials from the service, fine-tune, report, settle. Sees `trimtab` only."""
