"""Statistics over speakers and what an embedding keeps of the speaker; arrays in, figures out."""
