"""What a split leaves on disk: manifests, graphs, golden data, forms in other precisions."""
