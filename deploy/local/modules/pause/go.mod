module bellbuoy.io/local/pause

go 1.26.0
