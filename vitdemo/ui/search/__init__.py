"""The tab Search: pictures by words, by a picture, and sentences by how well they fit."""
