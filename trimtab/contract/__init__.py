"""The REST messages: what the service, its workers and its users say to one another. Imports pydantic only."""
