package secrets

import (
	"fmt"
	"testing"
	"time"
)

type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

func TestEachSenderHasAnAllowance(t *testing.T) {
	at := &clock{time.Unix(1000, 0)}
	limits := newLimiter(3, 1000, at.now)
	for range 3 {
		if limits.take("a") != 0 {
			t.Fatal("refused within the allowance")
		}
	}
	if wait := limits.take("a"); wait != 20*time.Second {
		t.Errorf("wait %s, want 20s", wait)
	}
	if limits.take("b") != 0 {
		t.Error("the flood of one sender keeps another out")
	}
	at.pass(20 * time.Second)
	if limits.take("a") != 0 || limits.take("a") == 0 {
		t.Error("after a third of a minute, one more and not two")
	}
}

func TestAllSendersShareAnAllowance(t *testing.T) {
	at := &clock{time.Unix(1000, 0)}
	limits := newLimiter(3, 5, at.now)
	taken := 0
	for index := range 20 {
		if limits.take(fmt.Sprint(index)) == 0 {
			taken++
		}
	}
	if taken != 5 {
		t.Errorf("%d requests, want 5", taken)
	}
}

func TestOneFlooderDoesNotUseUpTheCommonAllowance(t *testing.T) {
	at := &clock{time.Unix(1000, 0)}
	limits := newLimiter(3, 5, at.now)
	for range 100 {
		limits.take("flood")
	}
	if limits.take("other") != 0 {
		t.Error("refused")
	}
}

func TestInventedAddressesCostNoMemory(t *testing.T) {
	at := &clock{time.Unix(1000, 0)}
	limits := newLimiter(3, 60000, at.now)
	taken := 0
	for index := range 10 * maxAddresses {
		if limits.take(fmt.Sprint(index)) == 0 {
			taken++
		}
	}
	if len(limits.by) > maxAddresses || taken != maxAddresses+3 {
		t.Errorf("%d senders kept, %d requests taken", len(limits.by), taken)
	}
	at.pass(2 * time.Minute)
	if limits.take("late") != 0 || len(limits.by) != 1 {
		t.Errorf("%d senders kept after two minutes", len(limits.by))
	}
}

func TestSenders(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:5":                 "192.0.2.1",
		"[::ffff:192.0.2.1]:5":        "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:5":    "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:6":     "2001:db8:1:2::/64",
		"[fe80::1%eth0]:6":            "fe80::/64",
		vsockAddress{2, 99}.String():  "vsock:2",
		vsockAddress{2, 100}.String(): "vsock:2",
		"@":                           "other",
	} {
		if got := senderOf(address); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
}

func TestConnectionsOfOneSenderAreBounded(t *testing.T) {
	guarded := guard(nil)
	for index := range maxConnectionsOfAddress {
		if !guarded.enter("a") {
			t.Fatalf("connection %d is refused", index)
		}
	}
	if guarded.enter("a") {
		t.Error("one more of the same sender is taken")
	}
	for index := guarded.all; index < maxConnections; index++ {
		if !guarded.enter(fmt.Sprint(index)) {
			t.Fatalf("connection %d is refused", index)
		}
	}
	if guarded.enter("b") {
		t.Error("one more of all is taken")
	}
	guarded.leave("a")
	if !guarded.enter("a") || len(guarded.open) > maxConnections {
		t.Error("a place that got free is not given again")
	}
}
