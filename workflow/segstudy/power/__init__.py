"""Planning a study: how many subjects tell a difference, or equivalence, and what their trainings cost."""
