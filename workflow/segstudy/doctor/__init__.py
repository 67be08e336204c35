"""What a machine has for a run, and what is wrong with it: `facts` looks, `checks` judges."""
