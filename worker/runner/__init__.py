"""The training process: it stays warm from trial to trial, and speaks only to its agent, never over HTTP."""
