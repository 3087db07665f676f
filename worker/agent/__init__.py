"""The process that speaks to the service over HTTP: leases, verdicts, uploads. It never imports torch."""
