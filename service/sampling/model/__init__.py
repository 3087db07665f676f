"""What is known of a study's configurations, in numbers: the unit cube, the Gaussian process over it, what to try next."""
