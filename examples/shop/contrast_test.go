package main

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var variables = regexp.MustCompile(`--([\w-]+): #([0-9a-f]{6});`)

// TestContrast holds the colours of style.css, light and dark, to WCAG 2.2, level AA: 4.5 to 1 for text, and 3 to 1 for
// what shows where a field or a button is.
func TestContrast(t *testing.T) {
	sheet, err := os.ReadFile("pages/style.css")
	require(t, err)
	light, dark, found := strings.Cut(string(sheet), "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("style.css has no dark colours")
	}
	dark, _, _ = strings.Cut(dark, "\n}\n")
	for scheme, css := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]float64{}
		for _, v := range variables.FindAllStringSubmatch(css, -1) {
			colours[v[1]] = luminance(t, v[2])
		}
		for _, pair := range []struct {
			least           float64
			ink, background []string
		}{
			{4.5, []string{"ink", "faint", "accent"}, []string{"paper", "card", "tint"}},
			{4.5, []string{"on-accent"}, []string{"accent"}},
			{4.5, []string{"success-ink"}, []string{"success"}},
			{4.5, []string{"warning-ink"}, []string{"warning"}},
			{4.5, []string{"error-ink"}, []string{"error"}},
			{3, []string{"field"}, []string{"paper", "card"}},
		} {
			for _, ink := range pair.ink {
				for _, background := range pair.background {
					a, b := colours[ink], colours[background]
					if a == b {
						t.Fatalf("%s: %s or %s is missing", scheme, ink, background)
					}
					if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < pair.least {
						t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", scheme, ink, background, ratio, pair.least)
					}
				}
			}
		}
	}
}

// luminance is the relative luminance of a colour, as WCAG defines it.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		require(t, err)
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
