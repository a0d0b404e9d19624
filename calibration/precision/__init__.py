"""Float16 and int8 in the graph, evaluated image by image against float32."""
