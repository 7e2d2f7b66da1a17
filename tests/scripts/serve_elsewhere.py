"""Only serves a node to a gateway elsewhere (argument: its address); lives on after its last line."""

import sys

from easyremote.simple import ComputeNode

node = ComputeNode(sys.argv[1], "elsewhere")


@node.register
def pooled(n):
    from concurrent.futures import ThreadPoolExecutor

    if sys.version_info[:3] in ((3, 12, 0), (3, 12, 1)):  # these start no thread after a script's last line
        return [i * i for i in range(n)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda i: i * i, range(n)))


node.serve()
print("last line", flush=True)
