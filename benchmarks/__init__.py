"""Programs that print the numbers the documentation states; run from the repository root."""
