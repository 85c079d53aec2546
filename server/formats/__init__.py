"""What several file systems' formats share: chains of clusters, DOS times, names."""
