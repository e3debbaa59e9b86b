//! The archive on a local folder and on a real HDFS: the same tests on both.

mod bounds;
mod compaction;
mod fixture;
mod killed;
mod readers;
mod writers;
