"""How much of the speaker an embedding keeps, and whom a recogniser serves badly."""
