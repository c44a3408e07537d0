package secrets

import (
	"net/netip"
	"strings"
	"sync"
	"time"
)

// maxAddresses is how many senders are told apart at one time; what comes beyond shares one allowance, so that
// a flood of invented addresses costs no memory.
const maxAddresses = 1024

// bucket is a token bucket: it holds up to a minute's allowance and fills evenly.
type bucket struct {
	tokens float64
	filled time.Time
}

// limiter bounds the requests of each address and of all together.
type limiter struct {
	lock     sync.Mutex
	each     float64 // requests a minute
	all      float64
	total    bucket
	rest     bucket // what has no place in the table
	by       map[string]*bucket
	now      func() time.Time
	capacity int
}

func newLimiter(perMinute, perMinuteTotal int, now func() time.Time) *limiter {
	limits := &limiter{
		each: float64(perMinute), all: float64(perMinuteTotal),
		by: map[string]*bucket{}, now: now, capacity: maxAddresses,
	}
	start := now()
	limits.total = bucket{tokens: limits.all, filled: start}
	limits.rest = bucket{tokens: limits.each, filled: start}
	return limits
}

// take counts one request. It returns how long to wait where there were too many, else zero.
func (l *limiter) take(sender string) time.Duration {
	l.lock.Lock()
	defer l.lock.Unlock()
	now := l.now()
	own := l.bucketOf(sender, now)
	l.refill(own, l.each, now)
	l.refill(&l.total, l.all, now)
	if wait := missing(own, l.each); wait > 0 { // first, so that one flooder does not use up what all share
		return wait
	}
	if wait := missing(&l.total, l.all); wait > 0 {
		return wait
	}
	own.tokens--
	l.total.tokens--
	return 0
}

func (l *limiter) bucketOf(sender string, now time.Time) *bucket {
	if known, ok := l.by[sender]; ok {
		return known
	}
	if len(l.by) >= l.capacity {
		for other, known := range l.by { // one that has been idle for a minute is full again: forgetting it changes nothing
			if now.Sub(known.filled) >= time.Minute {
				delete(l.by, other)
			}
		}
	}
	if len(l.by) >= l.capacity {
		return &l.rest
	}
	fresh := &bucket{tokens: l.each, filled: now}
	l.by[sender] = fresh
	return fresh
}

func (l *limiter) refill(b *bucket, perMinute float64, now time.Time) {
	b.tokens = min(perMinute, b.tokens+perMinute*now.Sub(b.filled).Minutes())
	b.filled = now
}

func missing(b *bucket, perMinute float64) time.Duration {
	if b.tokens >= 1 {
		return 0
	}
	return time.Duration((1 - b.tokens) / perMinute * float64(time.Minute))
}

// senderOf is what an address (host and port) counts as: an IPv4 address, the /64 of an IPv6 address, as one
// machine has all of it, or the context identifier of a vsock peer.
func senderOf(address string) string {
	if strings.HasPrefix(address, vsockPrefix) {
		return address[:strings.LastIndexByte(address, ':')]
	}
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return "other"
	}
	host := parsed.Addr().Unmap()
	if host.Is4() {
		return host.String()
	}
	prefix, err := host.WithZone("").Prefix(64)
	if err != nil {
		return "other"
	}
	return prefix.String()
}
