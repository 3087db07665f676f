"""The room of fetching: data sets from elsewhere, brought into the cache of this machine once. Only the agent fetches."""
