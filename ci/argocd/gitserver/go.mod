module house-platform/gitserver

go 1.26
