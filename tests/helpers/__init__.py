"""What several test modules use: tiny networks, published formats, data sets, servers, commands."""
