package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
)

func redisKey() string { return os.Getenv("TEST_KEY") + "_listener_multiaddr" }

// redis sends one command, and returns the last line of the answer: all that RPUSH and BLPOP need.
func redis(command ...string) (string, error) {
	conn, err := net.Dial("tcp", os.Getenv("REDIS_ADDR"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s\r\n", strings.Join(command, " ")); err != nil {
		return "", err
	}
	answer := bufio.NewScanner(conn)
	more := 1
	for more > 0 && answer.Scan() {
		more--
		line := answer.Text()
		switch {
		case strings.HasPrefix(line, "-") || line == "*-1" || line == "$-1":
			return "", fmt.Errorf("redis: %s", line)
		case line == "*2":
			more = 4 // two strings, each behind its length
		}
	}
	return answer.Text(), answer.Err()
}
