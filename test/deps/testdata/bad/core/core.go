// Package core is flagged as pure and is not. It may import nothing.
package core

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"example.com/bad/impure"
	"example.com/other/library"
)

type node struct{ sync.Mutex }

func work(ctx context.Context, address netip.Addr) time.Time {
	go impure.Run()
	library.Call()
	return time.Now()
}
