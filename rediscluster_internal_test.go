package pycket

import "testing"

// What Redis says of addresses is made such that it can be dialed.
func TestCompleteAddress(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:7000": "10.0.0.1:7000", "node.example:7000": "node.example:7000",
		":7000": "10.0.0.9:7000", "::1:7000": "[::1]:7000", "[::1]:7000": "[::1]:7000", "2001:db8::5:7000": "[2001:db8::5]:7000",
	} {
		if got := complete(address, "10.0.0.9:6379"); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
