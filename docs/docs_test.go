// Package docs_test holds what the pages say: their links lead somewhere, and their code is compiled and run.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the text of every page for readers, by its path from the repository's root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md", "../examples/*.md", "../examples/*/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.Join("docs", file)] = string(text)
		}
	}
	return texts
}

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

// goBlocks returns the Go code of a page.
func goBlocks(page string) (blocks []string) {
	for _, found := range goBlock.FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, found[1])
	}
	return blocks
}

// flat is code without indentation.
func flat(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}

// A block of Go on a page is a whole file, which TestWholeFiles or the README's test runs, or an excerpt of code that
// tests run. A line with nothing but an ellipsis leaves something out.
func TestCodeIsTested(t *testing.T) {
	var sources []string
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			var source []byte
			source, err = os.ReadFile(path)
			sources = append(sources, flat(string(source)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ellipsis := regexp.MustCompile(`(?m)^\s*(// )?…\n`)
	for path, page := range pages(t) {
		for _, block := range goBlocks(page) {
			if strings.HasPrefix(block, "package ") {
				continue
			}
			for _, part := range ellipsis.Split(block, -1) {
				excerpt := flat(part)
				if !slices.ContainsFunc(sources, func(source string) bool { return strings.Contains(source, excerpt) }) {
					t.Errorf("%s has code that no tested file has:\n%s", path, part)
				}
			}
		}
	}
}

// Every link to a file leads to one, and every link to a heading to a heading.
func TestLinks(t *testing.T) {
	texts := pages(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for path, page := range texts {
		for _, found := range link.FindAllStringSubmatch(page, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s: a link to nothing: %s", path, found[1])
			}
			if anchor != "" && strings.HasSuffix(file, ".md") && !slices.Contains(anchors(texts[file]), anchor) {
				t.Errorf("%s: a link to no heading: %s", path, found[1])
			}
		}
	}
}

// anchors returns the names that GitHub gives a page's headings.
func anchors(page string) (names []string) {
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, found := range heading.FindAllStringSubmatch(page, -1) {
		name := dropped.ReplaceAllString(strings.ToLower(found[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
