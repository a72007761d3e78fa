"""Statistics over speakers, and how much of the speaker an embedding keeps: arrays in, figures out."""
