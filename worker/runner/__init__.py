"""The training process: warm from trial to trial, it speaks to its agent alone and never over HTTP."""
