"""Images and label maps: reading, checking, reorienting, cropping, resampling, normalising, storing."""
