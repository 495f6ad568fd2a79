module github.com/pycket/pycket/examples/shop/tour

go 1.26.0

require (
	github.com/chromedp/cdproto v0.160.1
	github.com/chromedp/chromedp v0.23.1
	github.com/pycket/pycket v0.0.0
)

require (
	github.com/alicebob/miniredis/v2 v2.40.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/gomodule/redigo v1.9.3 // indirect
	github.com/maypok86/otter/v2 v2.4.0 // indirect
	github.com/mna/redisc v1.4.0 // indirect
	github.com/yuin/gopher-lua v1.1.1 // indirect
)

replace github.com/pycket/pycket => ../../..
