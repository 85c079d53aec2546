"""What is printed into docs/ from the code."""
