//! x
use std::io::BufRead;
fn main(){
    let args:Vec<String>=std::env::args().collect();
    if args[1]=="clean" {
        for line in std::io::stdin().lock().lines(){
            let s:String=serde_json::from_str(&line.unwrap()).unwrap();
            println!("{}", serde_json::to_string(&sora_diffusion::tokenizer::clean_prompt(&s)).unwrap());
        }
        return;
    }
    let t=sora_diffusion::tokenizer::Tokenizer::open(std::path::Path::new(&args[1])).unwrap();
    for p in ["x".repeat(100_000), "a red ball. ".repeat(10_000), "é\u{301}&amp;Ã©猫".repeat(10_000)] {
        let i=std::time::Instant::now();
        let c=sora_diffusion::tokenizer::clean_prompt(&p);
        let d=i.elapsed();
        t.encode(&p,512).unwrap();
        println!("{} clean {:?} all {:?}", c.len(), d, i.elapsed());
    }
}
