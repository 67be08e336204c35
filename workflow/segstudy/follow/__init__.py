"""What a study's jobs did and would do: the record of them, `segstudy preview` and `segstudy status`."""
