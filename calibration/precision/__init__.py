"""Float16 and int8 in the graph, judged image by image against float32."""
