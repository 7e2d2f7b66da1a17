from easyremote.simple import quick_client, quick_node, quick_start

quick_start()
node = quick_node()


@node.register
def compute_task(data):
    return f"computed {data}"


print(quick_client().call("compute_task", "my_data"))
