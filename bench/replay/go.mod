module bellbuoy.io/bench/replay

go 1.26
