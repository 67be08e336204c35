"""Label repair: auditing labels, estimating how a structure was moved, moving it back."""
