"""What is measured: metrics, samples, and how they are stored."""
