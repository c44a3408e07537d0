"""PE/COFF images: headers, sections, and the Authenticode digest that firmware takes of an image before it runs."""
