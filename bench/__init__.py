"""Load generators and benchmarks, each a command from the root of the repository (`make bench` runs all):

- `python -m bench.fanout`: one stream to many players, beside nginx-rtmp. `publisher` and `players` are the load processes
  (`sampling`: what players learn from messages), `load` their parent's view, `results`, `report` and `plot` what came out.
- `python -m bench.objects`: changes of SharedObjects with the journal off, on SQLite and on Redis. `object_layout` says who
  uses which object, `object_wire` what is sent and checked, `object_clients` is the load process, `object_load` its parent's
  view, `store_cluster` the server; `object_results`, `object_report` and `object_plot` say what came out.
- `python -m bench.stream_limit`: what one stream costs its single origin.
- `python -m bench.failover`: what clients see while origins die, hang and move.
- `python -m bench.tunnels`: what RTMPT costs an edge, beside RTMP. `tunnel_wire` is how a client's RTMP travels, `tunnel_clients`
  the load process, `tunnel_results`, `tunnel_report` and `tunnel_plot` what came out.

All stand on `stream` and `session` (what clients do), `worker`, `client_load` and `client_process` (a process of the load),
`processes`, `server`, `nginx` and `headwater` (what is measured), `measure`, `machine` and `screen`. Another benchmark is a
module beside these.
"""
