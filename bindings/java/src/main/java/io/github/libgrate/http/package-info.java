/** libgrate in front of {@code java.net.http}. */
package io.github.libgrate.http;
