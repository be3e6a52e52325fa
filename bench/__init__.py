"""Load generator and side-by-side benchmarks: `python -m bench.fanout` (`make bench`) from the root of the repository.

`stream` is what is sent, `session` how a client opens, `publisher` and `players` are the load processes (`sampling`: what
players learn from messages) and `load` their parent's view; `processes` and `server` start what is measured: `nginx`,
`headwater`; `measure`, `results`, `machine`, `report` and `plot` say what came out.
Another benchmark is a module beside `fanout` that puts these together differently.
"""
