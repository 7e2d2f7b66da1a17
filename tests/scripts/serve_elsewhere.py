"""Only serves a node to a gateway elsewhere (argument: its address); lives on after its last line."""

import sys

from easyremote.simple import ComputeNode

node = ComputeNode(sys.argv[1], "elsewhere")


@node.register
def pooled(n):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda i: i * i, range(n)))


node.serve()
print("last line", flush=True)
