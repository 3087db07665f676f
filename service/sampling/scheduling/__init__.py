"""Which trial gets the next epochs: rules that pause trials and take them up again."""
