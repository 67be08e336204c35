"""Running a published package again: what it holds, whether it is whole, and which of its tables come out the same."""
