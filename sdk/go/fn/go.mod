module orama/sdk/go/fn

go 1.21
