package main

import (
	"maps"
	"testing"
)

func TestParseCommandStats(t *testing.T) {
	const text = "# Commandstats\r\n" +
		"cmdstat_get:calls=7,usec=12,usec_per_call=1.71,rejected_calls=0,failed_calls=0\r\n" +
		"cmdstat_client|caching:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,failed_calls=0\r\n"
	got, err := parseCommandStats(text)
	want := map[string]commandUse{"get": {7, 12}, "client|caching": {1, 3}}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := parseCommandStats("cmdstat_get:often\r\n"); err == nil {
		t.Errorf("that was taken for %v", got)
	}
}

func TestUsedSince(t *testing.T) {
	before := map[string]commandUse{"get": {7, 12}, "info": {1, 50}}
	after := map[string]commandUse{"get": {9, 15}, "info": {1, 50}, "set": {1, 2}}
	want := map[string]commandUse{"get": {2, 3}, "set": {1, 2}}
	if got := usedSince(before, after); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestKindsOf(t *testing.T) {
	commands := []command{
		{args: []string{"GET", "a"}},
		{args: []string{"MULTI"}},
		{args: []string{"SET", "a", "b"}, queued: true},
		{args: []string{"exec"}},
		{args: []string{"get", "a"}},
	}
	want := map[string]float64{"get": 1, "multi": 0.5, "exec": 0.5}
	if got := kindsOf(commands, 2); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRedisUses(t *testing.T) {
	r := &report{
		Costs: []cost{
			{Workload: "B", Contestant: "a", Kinds: map[string]float64{"get": 1, "evalsha": 1}},
			{Workload: "B", Contestant: "cache", Kinds: map[string]float64{}},
			{Workload: "B", Contestant: "elsewhere", Kinds: map[string]float64{"get": 1}},
		},
		Results: []result{
			// The script runs GET, too, so that there are twice as many calls as the client made.
			{Workload: "B", Contestant: "a", Connections: targetConnections, RedisCPU: 5,
				Commands: map[string]commandUse{"get": {20, 10}, "evalsha": {10, 30}}},
			{Workload: "B", Contestant: "cache", Connections: targetConnections, RedisCPU: 0.1},
			{Workload: "B", Contestant: "elsewhere", Connections: 1, RedisCPU: 5},
		},
	}
	uses := r.redisUses()
	if len(uses) != 1 {
		t.Fatalf("got %+v", uses)
	}
	u := uses[0]
	if u.InCommands != 3.5 || u.PerCore != 200_000 || u.Kinds[0] != (kindUse{"evalsha", 1, 3}) || u.Kinds[1] != (kindUse{"get", 1, 0.5}) {
		t.Errorf("got %+v", u)
	}
}
