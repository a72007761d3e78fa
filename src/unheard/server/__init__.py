"""A recogniser over HTTP, and a page to try it: `unheard serve MODEL`.

    a request -> guard (whose?) -> a place (429) -> the upload in memory (413, 408) -> a thread (504) -> JSON

It keeps nothing it is sent. Needs the extra `server`.
"""
