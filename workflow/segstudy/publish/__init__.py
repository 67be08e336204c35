"""Publishing: figures, report, viewer and the package beside the paper."""
