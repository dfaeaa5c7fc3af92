module github.com/libgrate/libgrate/bindings/go

go 1.22
