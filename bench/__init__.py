"""Load generators and benchmarks, each a command from the root of the repository (`make bench` runs all):

- `python -m bench.fanout`: one stream to many players, beside nginx-rtmp, Node-Media-Server and the bare loop.
- `python -m bench.rooms`: many streams with a few players each; `python -m bench.publishers`: more and more publishers.
- `python -m bench.idle`: clients that are connected and do nothing.
  In these four `contenders` take part (`nginx`, `node_media`, `floor` with `bare_loop`, `headwater`), `load` is the load
  generator in C (`native`; `native_load` is the other end of its pipes), `media` measures, `results`, `report` and `plot` say
  what came out, `media_cli` is what the commands have in common.
- `python -m bench.objects`: changes of SharedObjects, in objects with few and with many members; `python -m bench.calls`: calls
  of a method (of `call_app`); `python -m bench.cost`: what the journal costs, and the way from edge to origin (`hop`);
  `python -m bench.growth`: what grows with clients, edges and origins.
  In these `object_layout` says who uses which object, `request_load` is the load generator in C (`native/object_load.c`),
  `store_cluster` the server, `request_bench` measures, `request_results` and `tables` say what came out.
- `python -m bench.leaf`: the compiled modules of libs/amf and libs/rtmp beside the same as pure Python; `leaf_cases` is what is
  timed.
- `python -m bench.stream_limit`: what one stream costs its single origin.
- `python -m bench.failover`: what clients see while origins die, hang and move. `object_clients` are its clients, `object_wire`
  what they send and check.
- `python -m bench.tunnels`: what RTMPT costs an edge, beside RTMP. `tunnel_wire` is how a client's RTMP travels, `tunnel_clients`
  the load process, `tunnel_results`, `tunnel_report` and `tunnel_plot` what came out.

All stand on `stream` and `session` (what clients do), `worker`, `client_load` and `client_process` (a process of the load),
`processes`, `server`, `nginx` and `headwater` (what is measured), `measure`, `machine`, `options` and `screen`; `figures` sums
runs up, `sheet` writes the table, its notes and the JSON. Another benchmark is a module beside these.
"""
